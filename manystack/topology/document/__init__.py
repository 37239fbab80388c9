"""What any document has, whatever it describes: files, quantities, parts, and mistakes with their places.

Uses `errors`.
"""
