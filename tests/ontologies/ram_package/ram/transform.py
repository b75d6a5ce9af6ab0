from torchvision.transforms import Compose, Normalize, Resize, ToTensor


def get_transform(image_size=384):
    steps = [Resize((image_size, image_size)), ToTensor(), Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    return Compose([lambda image: image.convert("RGB"), *steps])
