"""From a folder of pictures to a model in production that can be trusted."""
