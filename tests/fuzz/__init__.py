"""Coverage-guided fuzzing of everything that reads files: `python -m tests.fuzz`; README.md says how."""
