"""The bot, and what people can tell it to do: a family of commands in each module."""
