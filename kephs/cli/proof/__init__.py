"""What a message proves: shown, bundled, exported, verified offline."""
