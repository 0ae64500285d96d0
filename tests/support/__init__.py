"""What tests share: real servers, fakes, small data."""
