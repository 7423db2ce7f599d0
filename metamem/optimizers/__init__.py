"""Policies that improve a meta-memory from judged attempts."""
