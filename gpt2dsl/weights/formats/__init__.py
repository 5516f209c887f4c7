"""Foreign weight formats: their tensor names and configurations, mapped to ours and back."""
