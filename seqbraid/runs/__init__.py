"""What trainings tell, one by one and side by side; reads run folders, and needs neither data nor weights."""
