"""What tests put in place of the real thing: corpora laid down on disk, untrained runs, videos."""
