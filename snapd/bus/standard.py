"""The interfaces that every bus object has, as the D-Bus specification writes them."""

from __future__ import annotations

PEER = "org.freedesktop.DBus.Peer"
INTROSPECTABLE = "org.freedesktop.DBus.Introspectable"
PROPERTIES = "org.freedesktop.DBus.Properties"
OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager"

DOCTYPE = (
    '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"\n'
    '"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">\n'
)

STANDARD = {
    PEER: f"""<interface name="{PEER}">
  <method name="Ping"/>
  <method name="GetMachineId"><arg type="s" name="machine_uuid" direction="out"/></method>
</interface>""",
    INTROSPECTABLE: f"""<interface name="{INTROSPECTABLE}">
  <method name="Introspect"><arg type="s" name="xml_data" direction="out"/></method>
</interface>""",
    PROPERTIES: f"""<interface name="{PROPERTIES}">
  <method name="Get">
    <arg type="s" name="interface_name" direction="in"/>
    <arg type="s" name="property_name" direction="in"/>
    <arg type="v" name="value" direction="out"/>
  </method>
  <method name="GetAll">
    <arg type="s" name="interface_name" direction="in"/>
    <arg type="a{{sv}}" name="props" direction="out"/>
  </method>
  <method name="Set">
    <arg type="s" name="interface_name" direction="in"/>
    <arg type="s" name="property_name" direction="in"/>
    <arg type="v" name="value" direction="in"/>
  </method>
  <signal name="PropertiesChanged">
    <arg type="s" name="interface_name"/>
    <arg type="a{{sv}}" name="changed_properties"/>
    <arg type="as" name="invalidated_properties"/>
  </signal>
</interface>""",
    OBJECT_MANAGER: f"""<interface name="{OBJECT_MANAGER}">
  <method name="GetManagedObjects">
    <arg type="a{{oa{{sa{{sv}}}}}}" name="objects" direction="out"/>
  </method>
  <signal name="InterfacesAdded">
    <arg type="o" name="object_path"/>
    <arg type="a{{sa{{sv}}}}" name="interfaces_and_properties"/>
  </signal>
  <signal name="InterfacesRemoved">
    <arg type="o" name="object_path"/>
    <arg type="as" name="interfaces"/>
  </signal>
</interface>""",
}
