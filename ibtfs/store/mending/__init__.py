"""Files of archives mended: what something appended is cut off, payloads are put back."""
