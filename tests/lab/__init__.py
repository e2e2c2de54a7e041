"""The lab itself under test: each real server starts, answers, keeps its data over a restart and goes."""
