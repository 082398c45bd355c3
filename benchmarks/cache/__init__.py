"""What each operation of the cache costs, through its public interface."""
