"""Rooms and chats: how they come to be linked, how they move, and how they part."""
