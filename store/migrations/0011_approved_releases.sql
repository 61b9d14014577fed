-- Which promotions an operator asked for: the newest of them is the anchor that slow decline is measured against.
alter table deployment_history add column approved boolean;
