"""What a user imports: learners, tasks and bundles that take examples in whatever form Python has them."""
