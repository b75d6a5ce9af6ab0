import torch


def inference_ram(image, model):
    """Of one image: (names, Chinese names), each a list of one."""
    with torch.no_grad():
        return model.generate_tag(image)


def inference_tag2text(image, model, input_tag="None"):
    """Of one image: (names, the user's names, caption)."""
    with torch.no_grad():
        captions, names = model.generate(image, tag_input=None, max_length=50, return_tag_predict=True)
    return names[0], None, captions[0]
