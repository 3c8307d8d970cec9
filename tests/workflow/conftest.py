"""The small study and private copies of it."""

from workplace import micro_study, workplace

__all__ = ["micro_study", "workplace"]
