"""Tables as a terminal shows them."""
