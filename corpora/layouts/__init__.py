"""Where the files of a corpus lie and how their names and headers read: no file is opened here."""
