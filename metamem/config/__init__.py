"""Options: what there are, how a composed config becomes typed ones, and which of them can change a result."""
