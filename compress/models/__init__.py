"""The model grammar: views -> branches -> fusion -> head, over timm."""
