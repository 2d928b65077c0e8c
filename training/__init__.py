"""How the models were made: data, synthesis, nets, training, export and evaluation."""
