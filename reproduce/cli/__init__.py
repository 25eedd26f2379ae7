"""The command line: from words to requests, and from requests to the rooms that do them."""
