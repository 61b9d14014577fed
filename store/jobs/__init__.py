"""Long tasks of the platform: records of jobs, and the parts that each has done so far."""
