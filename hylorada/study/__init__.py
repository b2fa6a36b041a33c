"""The study: what is run and measured for the paper. It only describes and measures runs of the method."""
