"""Files that travel in every bundle as they are; they import nothing of ours."""
