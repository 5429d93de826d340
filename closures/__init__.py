"""Everything modelled or learned; imports `solver`, never the other way."""
