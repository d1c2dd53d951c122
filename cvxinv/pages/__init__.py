"""What people look at: reports, pictures, summaries."""
