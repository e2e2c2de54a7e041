"""From lines to facts and from verbs to lines: who is who, what was said, in which form. Without IO."""
