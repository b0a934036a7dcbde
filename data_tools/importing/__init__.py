"""From published files of critic records to a data set that training reads at random access."""
