"""Services that every stage needs: errors, files, processes, devices."""
