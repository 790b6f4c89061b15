"""Documents that live: a folder that holds their passages, what was written about these, and their adapters, kept in
step with the documents."""
