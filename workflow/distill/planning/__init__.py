"""What a stage costs before it runs: shapes of models, lengths of texts, rates of a machine, and the formulas."""
