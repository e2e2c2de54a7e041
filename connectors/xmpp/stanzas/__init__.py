"""Stanzas read and written, without IO: from XML to facts and from verbs to XML."""
