"""What is said, as MIMI content: octets, Markdown, files, reports (draft-ietf-mimi-content-08). Pure."""
