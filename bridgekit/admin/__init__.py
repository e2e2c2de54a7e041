"""What the people and machines that look after the bridge use: health, metrics, and later an API and a dashboard."""
