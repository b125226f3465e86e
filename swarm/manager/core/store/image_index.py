"""Images: which has which name, and which are kept by which node."""

from swarm.api.v1.image_pb2 import Image


def image_name_taken(name: str) -> str:
    return f"image {name} is another one meanwhile: repeat the request"


class ImageIndex:
    def __init__(self) -> None:
        self.ids_by_image_name: dict[str, str] = {}
        self.kept_by: dict[str, dict[str, None]] = {}

    def move(self, old: Image | None, new: Image | None) -> None:
        if old is not None:
            for name in dict.fromkeys(old.names):
                del self.ids_by_image_name[name]
            for node_id in dict.fromkeys(old.keeper_node_ids):
                kept = self.kept_by[node_id]
                del kept[old.id]
                if not kept:
                    del self.kept_by[node_id]
        if new is not None:
            for name in new.names:
                self.ids_by_image_name[name] = new.id
            for node_id in new.keeper_node_ids:
                self.kept_by.setdefault(node_id, {})[new.id] = None
