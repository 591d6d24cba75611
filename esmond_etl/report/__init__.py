"""One page that shows what a pipeline has delivered: facts from its ledger, and the page that they are shown on."""
