"""Configs of the same choices put together once.

Hydra composes a sweep's config, and then each job's twice: to find mistakes before the first job runs, and to run it.
Most of the time goes into finding which files and options the choices stand for, and into merging those.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def composing_once() -> Iterator[None]:
    """Within the context, keep what Hydra makes of the choices of groups; the values of options are put over a copy.

    What is kept goes with the context, so that a file that is changed counts for the next command.
    """
    from hydra._internal import config_loader_impl
    from hydra._internal.defaults_list import DefaultsList, Overrides

    loading: Any = config_loader_impl

    listed: dict[str, DefaultsList] = {}
    merged: dict[str, Any] = {}
    find, merge = loading.create_defaults_list, loading.ConfigLoaderImpl._compose_config_from_defaults_list

    def found(repo: Any, config_name: Any, overrides_list: Any, **how: Any) -> DefaultsList:
        given = Overrides(repo=repo, overrides_list=overrides_list)
        chosen = (given.override_choices, given.append_group_defaults, given.deletions)
        key = repr((repo.get_sources(), config_name, *chosen, how))
        if key not in listed:
            listed[key] = find(repo=repo, config_name=config_name, overrides_list=overrides_list, **how)
        known = listed[key]
        return DefaultsList(known.defaults, known.defaults_tree, given.config_overrides, known.overrides)

    def once(self: Any, defaults: Any, repo: Any) -> Any:
        key = repr((repo.get_sources(), defaults))
        if key not in merged:
            merged[key] = merge(self, defaults=defaults, repo=repo)
        return copy.deepcopy(merged[key])

    loading.create_defaults_list = found
    loading.ConfigLoaderImpl._compose_config_from_defaults_list = once
    try:
        yield
    finally:
        loading.create_defaults_list = find
        loading.ConfigLoaderImpl._compose_config_from_defaults_list = merge
