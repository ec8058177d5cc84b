"""How fast this machine inspects: the cascade alone, end to end through a broker, and what the stream costs."""
