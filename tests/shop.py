"""The schema of a shop's transactions, to which tests add features and windows."""

SHOP = """
name = "shop"
[roles]
transaction_id = "id"
event_time = "t"
account_id = "card"
merchant_id = "shop"
amount = "price"
label = "fraud"
"""
