"""The artefact: manifest, archive, fixtures."""
