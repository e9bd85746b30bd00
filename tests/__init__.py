"""A real package, because one of the dependencies installs a package of this name, too."""
