"""From a config to judged answers: the parts of a run and the stages that questions flow through."""
