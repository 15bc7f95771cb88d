"""Files of any kind -> documents: which files are meant, how they are cut into units of work, what a record holds."""
