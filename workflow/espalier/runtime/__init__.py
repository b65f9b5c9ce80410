"""What every stage needs and no paper describes: errors, files, processes, devices."""
