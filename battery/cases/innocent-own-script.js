navigator.sendBeacon("/own/beacon?$case");
