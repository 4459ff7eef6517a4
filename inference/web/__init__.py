"""A web page on this machine alone, on which a trained run can be tried."""
