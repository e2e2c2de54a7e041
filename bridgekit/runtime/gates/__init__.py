"""What decides whether words may pass: who reads them, who agreed, who may speak; and what waits for that."""
