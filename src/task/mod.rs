//! Tasks: data files, prompts, answer parsing and scores.
