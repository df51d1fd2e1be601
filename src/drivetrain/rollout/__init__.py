"""Roll-outs in steps: stages, who gets the candidate, evidence, gates and the ledger. No I/O."""
