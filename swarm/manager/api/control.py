"""The control API: what swarmctl asks of a manager, an object per noun."""

from swarm.manager.api.admins import AdminMethods
from swarm.manager.api.backup import BackupMethods
from swarm.manager.api.cluster import ClusterMethods
from swarm.manager.api.configs import ConfigMethods
from swarm.manager.api.events import EventMethods
from swarm.manager.api.forwarding import Forwarding
from swarm.manager.api.images import ImageMethods
from swarm.manager.api.nodes import NodeMethods
from swarm.manager.api.plans import PlanMethods
from swarm.manager.api.secrets import SecretMethods
from swarm.manager.api.services import ServiceMethods
from swarm.manager.api.stacks import StackMethods
from swarm.manager.api.tasks import TaskMethods
from swarm.manager.api.watch import WatchMethods
from swarm.manager.image_nodes import ImageNodes
from swarm.manager.logs import LogBroker
from swarm.manager.manager import Manager


class ControlApi:
    """Thin: authorise (the interceptor), validate (core), propose, answer."""

    def __init__(
        self,
        manager: Manager,
        forwarding: Forwarding,
        logs: LogBroker,
        image_nodes: ImageNodes,
    ) -> None:
        cluster = ClusterMethods(manager, forwarding)
        self.GetCluster = cluster.GetCluster
        self.UpdateCluster = cluster.UpdateCluster
        self.JoinTokens = cluster.JoinTokens
        self.CreateAdminCertificate = AdminMethods(manager, forwarding).CreateAdminCertificate

        nodes = NodeMethods(manager, forwarding)
        self.GetNode = nodes.GetNode
        self.ListNodes = nodes.ListNodes
        self.UpdateNode = nodes.UpdateNode
        self.RemoveNode = nodes.RemoveNode

        services = ServiceMethods(manager, forwarding)
        self.CreateService = services.CreateService
        self.GetService = services.GetService
        self.ListServices = services.ListServices
        self.UpdateService = services.UpdateService
        self.RemoveService = services.RemoveService
        self.ServiceHistory = services.ServiceHistory

        plans = PlanMethods(manager, forwarding)
        self.Plan = plans.Plan
        self.Explain = plans.Explain

        secrets = SecretMethods(manager, forwarding)
        self.CreateSecret = secrets.CreateSecret
        self.GetSecret = secrets.GetSecret
        self.ListSecrets = secrets.ListSecrets
        self.UpdateSecret = secrets.UpdateSecret
        self.RemoveSecret = secrets.RemoveSecret

        configs = ConfigMethods(manager, forwarding)
        self.CreateConfig = configs.CreateConfig
        self.GetConfig = configs.GetConfig
        self.ListConfigs = configs.ListConfigs
        self.UpdateConfig = configs.UpdateConfig
        self.RemoveConfig = configs.RemoveConfig

        stacks = StackMethods(manager, forwarding)
        self.DeployStack = stacks.DeployStack
        self.RemoveStack = stacks.RemoveStack
        images = ImageMethods(manager, forwarding, image_nodes)
        self.ListImages = images.ListImages
        self.GetImage = images.GetImage
        self.TagImage = images.TagImage
        self.RemoveImage = images.RemoveImage
        self.PruneImages = images.PruneImages
        self.RegisterImages = images.RegisterImages
        self.LoadImage = images.LoadImage
        self.SaveImage = images.SaveImage
        self.PullImage = images.PullImage
        self.BuildImage = images.BuildImage

        tasks = TaskMethods(manager, forwarding, logs)
        self.GetTask = tasks.GetTask
        self.ListTasks = tasks.ListTasks
        self.ServiceLogs = tasks.ServiceLogs

        self.Watch = WatchMethods(manager, forwarding).Watch
        self.Events = EventMethods(manager, forwarding).Events
        self.Backup = BackupMethods(manager, forwarding).Backup
