"""What the doctor looks at in URLs, options, pools and servers."""
