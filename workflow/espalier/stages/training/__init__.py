"""What trains: teachers, stages, recoveries. Several processes can share one."""
